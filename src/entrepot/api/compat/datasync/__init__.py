"""The datasync family: requests and answers as its published page has them."""
