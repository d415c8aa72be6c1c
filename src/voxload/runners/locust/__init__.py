"""Runs spread over machines on Locust's master and workers: plans go out, exact snapshots come back.

Importing Locust patches the whole process (gevent), so `master` and `worker` are processes of their own; the command
and the shards stay on asyncio.
"""
