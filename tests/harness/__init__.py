"""What the tests of a running broker share: brokers, reports, the wire, Kafka and its tools."""
