"""What every gRPC process is made of: server, middleware, peers, logs, metrics."""
