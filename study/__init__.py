"""The study: what is trained, what is measured, and the account, all by command (`python -m study --help`)."""
