"""The shop of the tau2 retail tasks (Sierra Research, MIT): its tools and rules in our own code, and who plays in it.

The data (database, policy, tasks) is not part of this repository; FAIRLEAD_DATA says where it is.
"""
