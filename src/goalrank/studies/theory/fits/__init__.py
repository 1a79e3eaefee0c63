"""Families of list policies and their fits: exact approximation errors."""
