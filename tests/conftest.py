pytest_plugins = ["tests.kafka_fixtures", "tests.registry_fixture"]
