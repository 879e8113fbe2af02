"""Corral's HTTP API: requests in, kernel calls, answers out in each client's dialect."""
