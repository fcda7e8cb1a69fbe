"""The demo: a real model service on real flights, and what its tables must hold afterwards."""
