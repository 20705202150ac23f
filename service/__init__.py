"""The HTTP microservice around the engine: `python -m service`.

Reading order: settings.py · launch.py and topology.py (one process or several) · alone.py (one:
its life from load to drain) · supervisor.py, engine_process.py, front_process.py, census.py
(several) · app.py (the routes) ·
middleware.py and exchange.py (what happens to every request) · limits.py, headers.py ·
api/openai.py, api/tei.py, api/health.py · errors.py · metrics.py ·
preparing.py, refusals.py, tokenizing.py, words.py · models/.
"""
