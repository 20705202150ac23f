"""Findings, verdicts and records."""
