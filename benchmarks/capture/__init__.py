"""What capture costs a service, beside other ways to hand over the same requests."""
