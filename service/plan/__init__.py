"""python -m service plan: how many replicas, and with which limits, before anything is bought.

Plays traffic through the service's own scheduling policy in virtual time. In reading order:

flags.py    what the user asks       batch_time.py  how long a batch takes
traffic.py  when requests come       trial.py       one run in virtual time, and what it measured
search.py   the smallest fleet       report.py      the answer, for people and for machines
plot.py     the plot                 units.py       figures as people read them
command.py  all of it, and the exit codes
"""
