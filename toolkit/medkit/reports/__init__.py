"""Reports: pages and model cards for people, with plots and pictures inside."""
