"""What starts a service to measure, and reads how it is."""
