"""Pretrained networks, cut by block name into a frozen prefix and a trained suffix."""
