"""Measuring and tuning: a scratch database, one index at a time, and the search for the best."""
