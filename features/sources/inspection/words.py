"""Words: what shops call our columns, in English, German, French, Spanish, Italian, Dutch, Polish and others.

Names are compared as words without accents, capitals and signs; a compound such as `Bestellnummer` is one word. The
first words of a role are the surest.
"""

import re
import unicodedata
from functools import lru_cache

Role = str

# Of the roles that are columns of the log or catalog, and: total (amount of an order or line), status, parent (line).
_WORDS: dict[Role, str] = {
    "timestamp": (
        "event timestamp|event time|timestamp|datetime|date time|created at|order date|purchase date|"
        "ordered at|created date|order created|transaction date|invoice date|date created|date added|"
        "sale date|purchased at|paid at|processed at|completed at|occurred at|t dat|ts|created|date|time|"
        "when|at|day|bestelldatum|auftragsdatum|rechnungsdatum|kaufdatum|belegdatum|buchungsdatum|datum|"
        "zeitpunkt|zeitstempel|uhrzeit|zeit|tag|date commande|date de commande|date achat|date facture|"
        "date heure|horodatage|jour|fecha pedido|fecha compra|fecha|fecha hora|hora|data ordine|"
        "data acquisto|data ora|data pedido|data compra|data|orderdatum|besteldatum|aankoopdatum|tijdstip|"
        "data zamowienia|data zakupu|objednano|datum objednavky|dato|ordredato|bestallningsdatum|orderdato|"
        "unix review time"
    ),
    "customer_id": (
        "customer id|cust id|cust no|cust number|cust|customer number|customer no|customer nr|"
        "customer key|customer code|customer user id|"
        "customer ref|customer|user id|user|member id|member|shopper id|buyer id|buyer|account id|person id|"
        "contact id|household key|household id|uid|reviewer id|profile id|subscriber id|loyalty id|"
        "card number|kundennummer|kundennr|kunden nummer|kunden nr|kunden id|kundenid|kunde|debitor|"
        "debitorennummer|benutzer id|nutzer id|numero client|no client|code client|id client|"
        "numero de client|id cliente|codigo cliente|numero cliente|cliente|id del cliente|codice cliente|"
        "utente|klantnummer|klantnr|klant id|klantid|klant|id klienta|numer klienta|klient|zakaznik|"
        "kundnummer|kundenummer|kund|asiakas|id usuario|usuario|id utilisateur|utilisateur|codigo do cliente|"
        "client|id customer"
    ),
    "client_id": (
        "client id|anonymous id|device id|visitor id|visitor|cookie id|cookie|ga client id|user pseudo id|"
        "browser id|fingerprint|full visitor id|distinct id|gerate id|besucher id|besucher|visiteur|"
        "id visiteur|visitante"
    ),
    "session_id": (
        "session id|session|user session|visit id|visit|ga session id|session key|sitzung|sitzungs id|sesion|"
        "sessione|sessie"
    ),
    "item_id": (
        "item id|sku|product id|article id|lineitem sku|item sku|product sku|variant sku|variant id|"
        "stock code|stockcode|product code|item code|item number|product number|parent asin|asin|isbn|aid|"
        "item no|product key|product|item|article|artikelnummer|artikelnr|artikel nr|artikel nummer|"
        "artikel id|artikel|produkt id|produktnummer|produktnr|produkt|reference produit|code article|"
        "code produit|id produit|id article|ref produit|reference|ref|produit|codigo producto|"
        "codigo articulo|id producto|referencia|codigo|producto|articulo|codice prodotto|codice articolo|"
        "id prodotto|codice|prodotto|articolo|artikelcode|productcode|productnummer|id produktu|kod produktu|"
        "symbol|kod|codigo do produto|id produto|produto|varenummer|materialnummer|material|ean|gtin|upc|"
        "barcode|mpn|handle|lineitem name|product name|item name|ean code|id product"
    ),
    "quantity": (
        "quantity|qty|qty ordered|product qty|lineitem quantity|item quantity|quantity ordered|"
        "order quantity|units|units sold|pieces|pcs|count|menge|anzahl|bestellmenge|stuckzahl|stuck|"
        "stueckzahl|stueck|quantite|qte|nombre|cantidad|unidades|cant|quantita|qta|pezzi|aantal|hoeveelheid|"
        "ilosc|liczba|sztuk|quantidade|qtd|antal|maara|mnozstvi|quantity refund|product quantity"
    ),
    "price": (
        "unit price|price|item price|lineitem price|item cost|product unit price|product price|price each|"
        "price unit|price per unit|unit cost|net unit price|sale price|selling price|base price|unit amount|"
        "einzelpreis|stuckpreis|stueckpreis|verkaufspreis|preis|bruttopreis|nettopreis|vk preis|vk|"
        "prix unitaire|prix|pu|prix vente|prix ttc|prix ht|precio unitario|precio|precio venta|pvp|"
        "prezzo unitario|prezzo|stukprijs|prijs|verkoopprijs|cena jednostkowa|cena|preco unitario|preco|"
        "valor unitario|pris|styckpris|hinta|regular price|variant price"
    ),
    "total": (
        "line total|row total|order line total|total price|amount|amt|total|revenue|order total|grand total|"
        "order total amount|sales|value|turnover|subtotal|spend|spent|net amount|gross amount|amount paid|"
        "payment value|"
        "gesamtpreis|gesamtbetrag|umsatz|betrag|summe|gesamt|montant|montant total|total ttc|importe|"
        "importe total|importo|totale|bedrag|totaal|kwota|wartosc|suma|valor total|valor|belopp|summa|belob|"
        "gesamtsumme"
    ),
    "currency": (
        "currency|currency code|order currency|order currency code|base currency code|iso currency|ccy|"
        "wahrung|waehrung|wahrungscode|devise|monnaie|moneda|divisa|valuta|munt|waluta|moeda|mena|valuutta"
    ),
    "order_id": (
        "order id|order number|order no|order nr|order|transaction id|increment id|invoice id|invoice number|"
        "invoice no|invoice|basket id|receipt id|receipt number|receipt|purchase id|sale id|sales order|"
        "order name|order key|bestellnummer|bestellnr|bestell nr|bestell id|bestellung|auftragsnummer|"
        "auftragsnr|auftrag|vorgangsnummer|rechnungsnummer|rechnungsnr|rechnung|belegnummer|belegnr|beleg|"
        "bonnummer|bon|numero commande|no commande|numero de commande|id commande|commande|ticket|facture|"
        "numero pedido|numero de pedido|id pedido|pedido|factura|numero ordine|id ordine|ordine|scontrino|"
        "ordernummer|bestelnummer|ordernr|bestelling|factuurnummer|numer zamowienia|id zamowienia|zamowienie|"
        "cislo objednavky|objednavka|ordrenummer|ordre|tilausnumero|id order"
    ),
    "name": (
        "event name|event type|event|action|action type|activity|activity type|behavior type|behaviour type|"
        "behavior|behaviour|interaction|interaction type|type|name|ereignis|ereignistyp|aktion|vorgang|"
        "evenement|type evenement|evento|tipo evento|accion|azione|gebeurtenis|actie|zdarzenie|akcja"
    ),
    "query": (
        "search term|search query|query|search|search keyword|keyword|suchbegriff|suche|recherche|busqueda|"
        "ricerca"
    ),
    "source": "utm source|traffic source|source|referrer source|quelle",
    "device": "device|device type|device category|platform|gerat|geraet|appareil|dispositivo|apparaat",
    "country": "country|country code|shipping country|billing country|land|pays|pais|paese|kraj",
    "consent": "consent|tracking consent|marketing consent|einwilligung|zustimmung",
    "event_id": "event id|message id|hit id|event uuid",
    "list_id": "list id|item list id|placement",
    "position": "position|rank|index|item list position",
    "email": (
        "email|e mail|mail|email address|customer email|email billing|mailadresse|e mail adresse|correo|"
        "courriel"
    ),
    "title": (
        "title|product name|item name|product title|prod name|name|item title|bezeichnung|artikelbezeichnung|"
        "titel|produktname|artikelname|produktbezeichnung|nom|nom produit|libelle|designation|titre|"
        "nombre producto|titulo|nome prodotto|titolo|nome|naam|productnaam|omschrijving|nazwa|nazwa produktu|"
        "nazev|namn|navn|description|beschreibung|descripcion|descrizione"
    ),
    "category": (
        "category|categories|product type|product category|google product category|category name|"
        "main category|category code|type|kategorie|kategorien|warengruppe|produktkategorie|produktgruppe|"
        "sortiment|categorie|rayon|famille|categoria|familia|reparto|productgroep|kategoria|department|"
        "section|product group|group|kategori"
    ),
    "brand": (
        "brand|vendor|manufacturer|brand name|brands|marke|hersteller|marque|fabricant|marca|fabricante|merk|"
        "fabrikant|marka|producent|znacka|varumarke|produttore"
    ),
    "available": (
        "available|availability|in stock|is in stock|stock status|stock quantity|stock|stock level|inventory|"
        "inventory quantity|qty in stock|verfugbar|verfugbarkeit|lagerbestand|bestand|lager|auf lager|"
        "disponible|disponibilite|stock disponible|disponibilita|disponibilidad|existencias|giacenza|"
        "voorraad|beschikbaar|dostepnosc|stan magazynowy|skladem|active|published|status|quantity|menge"
    ),
    "status": (
        "order status|financial status|payment status|status|state|order state|bestellstatus|zahlungsstatus|"
        "auftragsstatus|statut|statut commande|estado|estado pedido|stato|stato ordine|orderstatus|"
        "status zamowienia"
    ),
    "parent": "parent item id|parent id|parent line id|parent line item id|parent",
}  # fmt: skip
# Words that make a column something else, whatever stands beside them.
_NOT: dict[Role, str] = {
    "timestamp": "updated modified shipped delivery delivered birth birthday expires expiry cancelled canceled "
    "refunded fulfilled dow prior since until uhrzeit lieferdatum versanddatum geburtsdatum livraison entrega consegna "
    "due",
    "customer_id": "name first last email mail phone group type segment age city note notes comment tags country "
    "status since vorname nachname gender",
    "item_id": "description compare url link image count total weight color colour size quantity price type group",
    "price": "id compare total shipping tax discount currency list old uvp rrp msrp cost ek",
    "total": "id channel tax shipping discount refunded refund count items qty quantity weight orders",
    "quantity": "id refunded shipped returned cancelled canceled invoiced stock available",
    "order_id": "date status total state currency type by item line dow hour amount count key created",
    "name": "first last billing shipping customer product item category brand file",
    "title": "meta seo page url file first last full customer buyer client user member contact person staff employee "
    "cashier seller recipient company billing shipping delivery payment method address city state status event "
    "campaign register store technical vorname nachname kunde kunden kundenname mitarbeiter",
    "status": "fulfillment fulfilment shipping shipment shipped delivery versand lieferung livraison customer account "
    "user member product stock inventory email newsletter marketing subscription billing province tax address country",
    "currency": "rate",
    "session_id": "duration count number",
}


def split_words(name: str) -> tuple[str, ...]:
    """The words of a column's name: lower case, without accents; camelCase and signs part them."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    plain = unicodedata.normalize("NFKD", parted.replace("ß", "ss")).encode("ascii", "ignore").decode()
    plain = re.sub(r"\b[nN][°º]", "no ", plain)
    return tuple(re.findall(r"[a-z]+|[0-9]+", plain.lower()))


@lru_cache(maxsize=4096)
def score_name(role: Role, name: str) -> int:
    """How surely a column of this name has the role: 0 (no) to 100."""
    path = re.split(r"(?<=\S)\.(?=\S)", name)  # not the point of an abbreviation
    words = split_words(path[-1])
    if len(path) > 1 and (not words or words[0] in _GENERIC):  # the id of what stands before
        words = split_words(" ".join(path[-2:]))
    if not words:
        return 0
    if (rest := _strip_tax(words)) != words and role in ("price", "total"):
        return max(0, score_name(role, " ".join(rest)) - (2 if set(words) & _WITHOUT else 1))
    best = 0
    for rank, phrase in enumerate(_phrases(role)):
        if words == phrase or "".join(words) == "".join(phrase):
            return max(best, 100 - min(rank, 45))
        if len(phrase) < len(words) and set(phrase) <= set(words) and not set(words) & _forbidden(role):
            missing = len(words) - len(phrase)
            best = max(best, 52 - 4 * missing - min(rank, 30) // 2 + 6 * len(phrase))
    return best


def _strip_tax(words: tuple[str, ...]) -> tuple[str, ...]:
    """`words` without those that say whether an amount is with tax; one that is a tax is left as it is."""
    if not (set(words) & _TAX and set(words) & (_WITH | _WITHOUT)):
        return words
    return tuple(word for word in words if word not in _TAX | _WITH | _WITHOUT)


@lru_cache(maxsize=64)
def _phrases(role: Role) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(phrase.split()) for phrase in _WORDS[role].split("|"))


@lru_cache(maxsize=64)
def _forbidden(role: Role) -> frozenset[str]:
    return frozenset(_NOT.get(role, "").split())


_GENERIC = ("id", "number", "no", "key", "code", "name", "date", "technical")
_TAX = {"tax", "taxes", "vat", "gst", "mwst", "ust", "tva", "iva", "btw"}
_WITH = {"incl", "inc", "including", "included", "with", "inkl", "mit"}
_WITHOUT = {"excl", "ex", "exc", "excluding", "excluded", "without", "exkl", "ohne"}
ROLES: tuple[Role, ...] = tuple(_WORDS)
