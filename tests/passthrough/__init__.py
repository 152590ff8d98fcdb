"""Tests of the template's own package, by apps that are not the generated one."""
