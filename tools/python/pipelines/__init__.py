"""Helpers of make_pipelines.py: tiny text-to-image pipelines, their exports and their goldens."""
