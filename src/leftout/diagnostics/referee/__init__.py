"""How good are scores, by training that was really done again, and how good could any be?"""
