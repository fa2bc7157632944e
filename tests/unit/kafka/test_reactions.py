"""Every error code the client knows, with every combination of its flags, has one reaction."""

from itertools import product

import pytest
from confluent_kafka import KafkaError, KafkaException

from worker.errors import BrokerError, DeliveryError, Fatal
from worker.kafka import reactions
from worker.kafka.reactions import Reaction, ending, reaction

CODES = sorted(code for name, code in vars(KafkaError).items() if name.lstrip("_").isupper() and isinstance(code, int))
FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
PLAIN = [code for code in CODES if code not in FENCED | reactions.LASTING]


def error(code, *, fatal=False, retriable=False, abort=False):
    return KafkaError(code, "what the broker said", fatal, retriable, abort)


def test_there_are_codes():
    assert len(CODES) > 150


@pytest.mark.parametrize("code", PLAIN)
def test_the_flags_decide(code):
    for fatal, retriable, abort in product((False, True), repeat=3):
        found = reaction(error(code, fatal=fatal, retriable=retriable, abort=abort), overdue=False)
        expected = Reaction.RETRY if retriable else Reaction.ABORT if abort else Reaction.RENEW
        assert found is expected


@pytest.mark.parametrize("code", sorted(FENCED))
def test_fencing_is_another_worker_or_the_coordinators_clock(code):
    for fatal, abort in product((False, True), repeat=2):
        assert reaction(error(code, fatal=fatal, abort=abort), overdue=False) is Reaction.END
        assert reaction(error(code, fatal=fatal, abort=abort), overdue=True) is Reaction.RENEW


@pytest.mark.parametrize("code", sorted(reactions.LASTING))
def test_what_would_come_again_ends_the_worker_whatever_its_flags(code):
    """A denied topic is abortable: aborting would meet it again for ever."""
    for fatal, retriable, abort in product((False, True), repeat=3):
        assert reaction(error(code, fatal=fatal, retriable=retriable, abort=abort), overdue=True) is Reaction.END


@pytest.mark.parametrize("code", sorted(FENCED | reactions.LASTING))
def test_every_end_has_a_sentence(code):
    said = ending(KafkaException(error(code)), "winnow-pod-1")
    assert isinstance(said, Fatal)
    assert str(said).endswith(".")


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (KafkaError._FENCED, BrokerError, "'winnow-pod-1'.*kafka.instance_id of its own"),
        (KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, BrokerError, "'winnow-pod-1' is denied. Grant WRITE"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, DeliveryError, "Grant WRITE on both"),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, BrokerError, "Grant READ on the group"),
        (KafkaError.INVALID_TRANSACTION_TIMEOUT, BrokerError, "transaction.max.timeout.ms"),
        (KafkaError.UNSUPPORTED_VERSION, BrokerError, "kafka.delivery = 'at-least-once'"),
        (KafkaError.MSG_SIZE_TOO_LARGE, DeliveryError, "was not committed"),
        (KafkaError.FENCED_INSTANCE_ID, BrokerError, "kafka.group_instance_id"),
    ],
)
def test_the_sentence_names_the_thing_and_the_mend(code, kind, words):
    with pytest.raises(kind, match=words):
        raise ending(KafkaException(error(code)), "winnow-pod-1")
