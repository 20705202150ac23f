"""The HTTP microservice around the engine: `python -m service`.

Reading order: settings.py · launch.py (processes, signals, drain) · app.py (the routes) ·
middleware.py and exchange.py (what happens to every request) · limits.py, headers.py ·
api/openai.py, api/tei.py, api/health.py · errors.py · metrics.py ·
preparing.py, refusals.py, tokenizing.py, words.py · models/.
"""
