"""Choosing among candidates: race them on the user's own samples and let the objectives decide.

``baselines`` are candidates without a language model, ``order`` is how samples are gone through, ``race`` decides who
goes on, ``selection`` runs it all, ``report`` is what came of it, ``words`` says what to do, ``page`` shows it.
"""
