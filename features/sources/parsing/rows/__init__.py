"""Rows of a shop's table before they are events: made whole, given ids, and validated.

`nested` makes rows of lists of objects, `fill_and_join` fills cells from the row above and joins other tables,
`order_lines` gives lines the person and event of their order, `event_ids` hashes ids for rows without one,
`whole_refunds` finds what a refund of a whole order takes back, `validate` splits off rejected rows. Imports `files`
and what lies below.
"""
