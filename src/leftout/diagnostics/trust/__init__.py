"""Do answers about a trained network speak for it trained again? What agreement of two models tells."""
