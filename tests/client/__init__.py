"""Tests of the clients and the worker."""
