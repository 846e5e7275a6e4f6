"""A shop to watch: real servers, two small services, load, and faults that can be switched on."""
