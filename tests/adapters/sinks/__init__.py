"""Tests of the hosts that are told. What is real in them and what is a stand-in, each file says."""
