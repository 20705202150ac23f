"""One command for a machine with a GPU (`loadtests/gpu.sh`), which also runs small on a CPU.

`forward` measures one path of the forward pass in a process of its own, `paths` names them, `floor`
says what the device could do at best, `drivers` sends from several processes, `served` measures the
service, `budget` leaves out what no longer fits, and `command` puts it all together.
"""
