"""Policies at work: a server that robots ask over the network, its client, and a player of chunks."""
