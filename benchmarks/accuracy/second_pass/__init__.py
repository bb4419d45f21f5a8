"""Research on the second pass of LPT: what phase 2 must train for group prompts to earn their price (issue 25)."""
