"""Tests of the local Flyte itself: does it do what the app and the Flyte CLI need of it?"""
