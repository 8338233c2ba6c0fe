"""Rules: what the shop wants shown, for whom, where and when. docs/rules.md has the semantics.

A rules file (`USUAL_RULES`) is checked whole and becomes an immutable `Rulebook`. For each request the rules that match
become `Effects`, which the planner, the slate and the response apply: hide, then boost and bury, shares, pins.
"""
