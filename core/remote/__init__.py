"""The client of Modal, without Modal: what is asked, waited for, kept and told. ``modal_backend.py`` speaks to them."""
