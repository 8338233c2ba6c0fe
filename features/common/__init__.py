"""Common: small helpers that every other room builds on and that know nothing of shops.

`clock` (microseconds, UTC), `arrays` (types by dtype), `errors` (`InputError`), `paths`, `locks`, `threads`,
`subprocesses`, `memory`, `progress`, `yaml_config`, and `html` and `svg` for reports. `InputError` comes first: it is
how any code tells a person what is wrong with their input. Imports no other room.
"""
