"""Whose traffic it is: process, container, systemd unit, service, and the names of peers."""
