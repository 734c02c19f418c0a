"""Heads that train together on frozen features."""
