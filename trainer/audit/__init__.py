"""What there is to say of pictures before anybody trusts a number: what they are like, and which are alike."""
