"""Measurements of fastgru beside its rivals: development tools, not installed with the package."""
