"""What a form shows of Twilio."""

from services.provider.description import Description, Field
from services.provider.fields import LONGEST
from services.provider.providers.twilio.form import ACCOUNT_SID_FORM, ALGORITHMS, API_KEY_SID_FORM

_TOKEN = "Auth Token"  # noqa: S105 - a way, as people call it
_KEY = "API key"
_SECRET = f"[!-~]{{1,{LONGEST}}}"
# As people type it; the marks between the digits are left out afterwards. Browsers want them escaped (`v` flag).
_NUMBER = r"(whatsapp:)?[+][1-9][0-9 \(\).\-]{1,28}"
_TOKEN_HELP = "https://www.twilio.com/docs/iam/api/account"  # noqa: S105 - a page
_KEY_HELP = "https://www.twilio.com/docs/iam/api-keys"
_NUMBER_HELP = "https://www.twilio.com/docs/phone-numbers"
_SIGNATURE_HELP = "https://www.twilio.com/docs/usage/webhooks/webhooks-security"


def description(*, sets_webhooks: bool) -> Description:
    """What a form shows. `sets_webhooks` says whether the numbers' webhooks are changed."""
    webhooks = "The webhooks of your numbers are pointed to this service, and put back when you disconnect. "
    rotation = (
        "When it is due, the Auth Token is replaced by a new one, which ends the old one everywhere, and a secondary "
        "token that is there is removed: if other systems use a token, give only an API key."
    )
    return Description(
        title="Twilio",
        summary="Phone numbers for calls, text messages and WhatsApp.",
        next=webhooks + rotation if sets_webhooks else rotation,
        console_url="https://console.twilio.com/",
        fields=(
            Field(
                name="account_sid",
                label="Account SID",
                hint="Starts with AC. It is on the first page of Twilio's console.",
                pattern=ACCOUNT_SID_FORM,
                placeholder="AC…",
                help_url=_TOKEN_HELP,
                required=True,
            ),
            Field(
                name="auth_token",
                label="Auth Token",
                hint="It is beside the Account SID.",
                pattern=_SECRET,
                help_url=_TOKEN_HELP,
                secret=True,
                way=_TOKEN,
            ),
            Field(
                name="api_key_sid",
                label="API key SID",
                hint="Starts with SK. A shared key for the webhooks takes the place of the Auth Token then.",
                pattern=API_KEY_SID_FORM,
                placeholder="SK…",
                help_url=_KEY_HELP,
                way=_KEY,
            ),
            Field(
                name="api_key_secret",
                label="API key secret",
                hint="Twilio shows it only once, when the key is made.",
                pattern=_SECRET,
                help_url=_KEY_HELP,
                secret=True,
                way=_KEY,
            ),
            Field(
                name="phone_number",
                label="Phone number",
                hint="A number of this account.",
                pattern=_NUMBER,
                placeholder="+14155550100",
                help_url=_NUMBER_HELP,
                required=True,
                phone_number=True,
            ),
            Field(
                name="whatsapp_number",
                label="WhatsApp number",
                hint="Leave it empty when it is the same, or when there is none.",
                pattern=_NUMBER,
                placeholder="+14155550100",
                help_url="https://www.twilio.com/docs/whatsapp",
                phone_number=True,
            ),
            Field(
                name="webhook_shared_key",
                label="Webhook shared key",
                hint="Only when Twilio signs your webhooks with a shared key instead of the Auth Token.",
                pattern=_SECRET,
                help_url=_SIGNATURE_HELP,
                secret=True,
                advanced=True,
            ),
            Field(
                name="webhook_algorithm",
                label="Webhook algorithm",
                hint="What the shared key signs by.",
                help_url=_SIGNATURE_HELP,
                choices=ALGORITHMS,
                advanced=True,
            ),
        ),
    )
