"""What is made of the winner."""
