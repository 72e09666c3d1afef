"""The n-th call of a part goes wrong, for every n: what is lost, done twice, or never ends by that?

`injection` has the faults. `test_faults` tells the story of the crash tests with each of them, in virtual
time and with real parts, and has it judged as those are.
"""
