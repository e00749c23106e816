"""How gunicorn runs the app. See gunicorn.conf.py."""
