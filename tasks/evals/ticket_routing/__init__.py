"""Held-out support tickets, each to be routed to a queue with a priority."""
