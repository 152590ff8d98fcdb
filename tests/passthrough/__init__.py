"""Tests of the template's own package, with small apps instead of the generated one."""
