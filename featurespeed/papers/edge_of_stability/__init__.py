"""D. Terjék, *Feature Learning Beyond the Edge of Stability* (arXiv:2502.13110), known to us by its abstracts.

What an abstract says stands in the facts of the rooms behind ``abstract only``; all else about the paper is not known
here, and nothing in the reading texts is the author's but what they say is.
"""
