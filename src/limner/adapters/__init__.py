"""With whom it happens: generation backends, stores, engines, hosts and the command line."""
