"""Tests on the local AWS server."""
