"""Small exports of shops in many languages and shapes, as texts; none is of a preset."""

SEMICOLON = """Bestellnummer;Bestelldatum;Kundennummer;Artikelnummer;Bezeichnung;Menge;Einzelpreis;Bestellstatus;Währung
B-1;05.01.2026 10:11;K7;00042;Becher;2;12,50;abgeschlossen;EUR
B-1;05.01.2026 10:11;K7;00043;Teller;1;1.299,00;abgeschlossen;EUR
B-2;25.01.2026 11:00;K8;00042;Becher;1;12,50;storniert;EUR
B-3;26.01.2026 12:00;K9;00043;Teller;3;9,90;erstattet;EUR
"""
FRENCH = """N° commande,Date de commande,Code client,Référence,Quantité,Prix unitaire
1,2026-01-05 10:00:00,C1,AB-1,2,"4,50"
2,2026-01-06 10:00:00,C2,AB-2,1,"10,00"
"""
SPANISH = """Pedido\tFecha\tCliente\tProducto\tCantidad\tPrecio
1\t2026-01-05\tC1\tP1\t1\t10
1\t2026-01-05\tC1\tP2\t-1\t10
2\t2026-01-06\tC2\tP1\t4\t10
"""
DUTCH = """Ordernummer,Besteldatum,Klantnummer,Artikelcode,Aantal,Stukprijs
1,05-01-2026,K1,A1,1,3.50
2,31-01-2026,K2,A2,2,4.50
"""
POLISH = """Numer zamówienia;Data zamówienia;Id klienta;Kod produktu;Ilość;Cena jednostkowa
1;2026-01-05;7;K1;2;12,50
2;2026-01-06;8;K2;1;3,00
"""
UNITED_STATES = """Order ID,Order Date,Customer ID,SKU,Qty,Unit Price,Currency
1,1/5/2026,7,A,1,$10.00,USD
2,2/6/2026,8,B,2,$3.50,USD
"""
# A later line of an order lacks what the first has; guests are known by their address alone.
LATER_LINES = """Name,Email,Created at,Lineitem quantity,Lineitem name,Lineitem price,Lineitem sku
#1001,ann@example.com,2026-01-05 10:00:00 +0100,1,Mug,10.00,SKU-1
#1001,,,2,Tea,4.00,
#1002,bob@example.com,2026-01-06 10:00:00 +0100,1,Mug,10.00,SKU-1
"""
PARENTS = """order_no,created_at,customer_no,line_id,parent_line_id,sku,qty,price
1,2026-01-05 10:11:12,12,1,,WS12,1,22.00
1,2026-01-05 10:11:12,12,2,1,WS12,1,0.00
2,2026-01-06 10:11:12,13,3,,MB01,1,34.00
"""
TOTALS = """id,paid at,customer email,amount,currency
p1,2026-01-05 10:11,ann@example.com,25.00,EUR
p2,2026-01-06 10:12,bob@example.com,"1,234.50",EUR
"""
LINE_TOTALS = """Datum;Kunde;Artikel;Anzahl;Umsatz
2026-01-05;K1;A;2;20,00
2026-01-06;K2;B;1;5,50
"""
TRACKER = """ts,visitor,action,product
2026-01-05T10:00:00Z,v1,click,A
2026-01-05T10:01:00Z,v1,addToCart,A
2026-01-05T10:02:00Z,v1,order,A
2026-01-05T10:03:00Z,v2,heartbeat,B
"""
VIEWS = """time,session,article_id
1767600000,1,A
1767600060,1,B
1767600120,2,A
"""
NESTED = """{"id": 1, "created_at": "2026-01-05T10:00:00Z", "customer": {"id": 7, "email": "ann@example.com"}, "line_items": [{"sku": "A", "quantity": 2, "price": "10.00"}, {"sku": "B", "quantity": 1, "price": "3.50"}]}
{"id": 2, "created_at": "2026-01-06T10:00:00Z", "customer": {"id": 8, "email": "bob@example.com"}, "line_items": [{"sku": "A", "quantity": 1, "price": "10.00"}]}
"""  # noqa: E501
HEADERS = """order_no,placed,member_id,currency
1,2026-01-05 10:00:00,7,EUR
2,2026-01-06 10:00:00,8,EUR
"""
LINES = """order_no,sku,qty,price
1,A,2,10.00
1,B,1,3.50
2,A,1,10.00
"""
PRODUCTS = """sku;name;preis;lagerbestand;warengruppe;marke
A;Becher;10,00;5;Küche;Alder
B;Teller;1.299,00;0;Küche;Birch
"""
OWN = """name,timestamp,customer_id,item_id,quantity,price,order_id
Purchase,2026-01-05T10:00:00Z,1,A,1,10,1
view_item,2026-01-06T10:00:00Z,1,A,,,
"""
FOOTER = """name,timestamp,customer_id,item_id,quantity,price,order_id
purchase,2026-01-05T10:00:00Z,1,A,1,10,1
purchase,2026-01-05T10:00:00Z,1,B,1,10,1
Total,,,,2,20,
"""

# What is the hour stands in a column of its own.
DATE_AND_TIME = """Date,Time,Customer,Product,Units
2026-01-05,10:11,C1,P1,2
2026-01-06,11:11,C2,P2,1
"""
# The ids of customers that have an account, the addresses of those that have none.
MIXED_CUSTOMERS = """customer_id;order_date;article;qty;price
ann@example.com;2026-01-05;A;1;5,00
17;2026-01-06;B;1;6,00
"""
ABBREVIATED = """Order Date|Cust. No.|Item|Amt
05/01/2026|7|A|10.00
25/01/2026|8|B|20.00
"""
NO_HEADER = """ann@example.com,2026-01-05,P,5
bob@example.com,2026-01-06,P,5
"""
DOCUMENT = """{"orders": [{"id": 1, "created_at": "2026-01-05", "customer_id": 3, "lines": [{"sku": "A", "quantity": 1, "price": 2}]}], "page": 1}
"""  # noqa: E501
# Prices with and without tax; ids as "id of what".
TAXED = """id_order;date_add;id_customer;order_state;product_id;product_name;product_quantity;unit_price_tax_excl;unit_price_tax_incl
1;2026-01-05 10:11:12;1;Delivered;7;T-shirt, size S;2;23.900000;28.680000
2;2026-01-06 09:00:00;2;Payment error;8;Poster;1;29.000000;34.800000
"""  # noqa: E501
# An order and its payment each have a state; a line without a product is no item, whatever the states are called.
TWO_STATES = """order_number;order_date_time;state_machine_state.technical_name;transactions.state;order_customer.customer_number;line_items.product_number;line_items.quantity;line_items.unit_price
10001;2026-02-01T10:00:00+00:00;completed;paid;10010;SW1;2;20.00
10001;2026-02-01T10:00:00+00:00;completed;paid;10010;;1;4.00
10002;2026-02-02T11:00:00+00:00;cancelled;paid;10011;SW2;1;16.00
10003;2026-02-03T11:00:00+00:00;completed;refunded;10012;SW2;1;16.00
"""  # noqa: E501
# A till's sales, their lines and payments, all in one table; the only column of names is of people.
TILL = """Date,Receipt number,Line type,Customer code,Customer name,Quantity,Total,Status,Sku
2026-03-01 10:11:12,1001,Sale,C1,Ann Hill,2,40.00,CLOSED,
2026-03-01 10:11:12,1001,Sale Line,C1,Ann Hill,2,40.00,CLOSED,MUG
2026-03-01 10:11:12,1001,Payment,C1,Ann Hill,,40.00,CLOSED,
2026-03-02 10:11:12,1002,Sale Line,C2,Bo Low,1,20.00,VOIDED,TEA
"""
