"""Samples the CPU and memory of the target while a run goes on."""
