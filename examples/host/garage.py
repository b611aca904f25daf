"""A small application with the extensions that many have: a garage's list of parts."""

from typing import Any

from flask import Flask, flash, redirect, render_template_string, request, url_for
from flask_caching import Cache
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_login import LoginManager, UserMixin, current_user, login_required, login_user
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import CSRFProtect, FlaskForm
from sqlalchemy.orm import Mapped, mapped_column
from wtforms import IntegerField, StringField
from wtforms.validators import InputRequired

db = SQLAlchemy()
migrate = Migrate()
login_manager = LoginManager()
csrf = CSRFProtect()
limiter = Limiter(get_remote_address, default_limits=["30 per minute"], storage_uri="memory://")
cache = Cache()

FORM = "<form method=post>{{ form.hidden_tag() }}{{ form.name() }}{{ form.price() }}</form>"
LIST = "<ul>{% for part in parts %}<li>{{ part.name }}: {{ part.price }}</li>{% endfor %}</ul>"


class Part(db.Model):  # type: ignore[name-defined] # Flask-SQLAlchemy makes the class at run time
    """Something that the garage sells."""

    __tablename__ = "parts"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[int]


class PartForm(FlaskForm):  # type: ignore[misc]
    """A new part."""

    name = StringField(validators=[InputRequired()])
    price = IntegerField(validators=[InputRequired()])


class User(UserMixin):  # type: ignore[misc]
    """Whoever knows the password."""

    id = "mechanic"


def create_app(config: dict[str, Any]) -> Flask:
    """Make the application."""
    app = Flask("garage")
    app.config.update(config)
    for extension in (db, login_manager, csrf, limiter, cache):
        extension.init_app(app)
    migrate.init_app(app, db)
    login_manager.login_view = "login"
    login_manager.user_loader(lambda _: User())
    _add_pages(app)
    return app


def _add_pages(app: Flask) -> None:
    @app.get("/")
    @cache.cached(timeout=60)
    def parts() -> str:
        """List the parts."""
        return render_template_string(LIST, parts=db.session.scalars(db.select(Part).order_by(Part.name)))

    @app.route("/parts/new", methods=["GET", "POST"])
    @login_required
    def new_part() -> Any:
        """Add a part."""
        form = PartForm()
        if not form.validate_on_submit():
            return render_template_string(FORM, form=form), 400 if request.method == "POST" else 200
        db.session.add(Part(name=form.name.data, price=form.price.data))
        db.session.commit()
        cache.clear()
        flash("Added.")
        return redirect(url_for("parts"))

    @app.route("/login", methods=["GET", "POST"])
    @limiter.limit("5 per minute", methods=["POST"])
    @csrf.exempt
    def login() -> Any:
        """Log in."""
        if request.form.get("password") == app.config["PASSWORD"]:
            login_user(User())
            return redirect(url_for("new_part"))
        return "<form method=post><input name=password></form>"

    @app.get("/me")
    def me() -> Any:
        """Say who is there."""
        return {"user": current_user.get_id()}

    @app.errorhandler(404)
    def not_found(_: Exception) -> Any:
        """Say so in the garage's words."""
        return "<h1>We don't have that</h1>", 404

    @app.errorhandler(500)
    def failed(_: Exception) -> Any:
        """Say so in the garage's words."""
        return "<h1>Out of order</h1>", 500

    @app.after_request
    def sign(response: Any) -> Any:
        """Mark what the garage has answered."""
        response.headers.setdefault("X-Garage", "yes")
        return response
