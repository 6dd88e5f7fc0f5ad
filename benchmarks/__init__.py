"""Measures limbeck's training engine side by side with TRL's; see docs/performance.md. No part of the wheel."""
