"""The protocol itself, pure: told the time, given its chance, never touching a socket."""
