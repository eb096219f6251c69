//! The kinds of things that happen in ToteSys.

/// One kind of thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// A sales order was placed.
    SalesOrderPlaced,
    /// A purchase order was placed.
    PurchaseOrderPlaced,
    /// The transaction of an order was recorded.
    TransactionRecorded,
    /// A payment was recorded.
    PaymentRecorded,
    /// The price of an order was corrected.
    PriceCorrected,
    /// The agreed date of an order was moved.
    DateMoved,
    /// A payment was marked as paid.
    PaymentSettled,
    /// A value was fixed by hand and `last_updated` stayed as it was.
    FixedSilently,
    /// A row was updated and `last_updated` went back in time.
    Backdated,
    /// A payment was deleted.
    PaymentDeleted,
    /// A payment that was deleted the day before was inserted again under the same key.
    PaymentRestored,
    /// A transaction was deleted.
    TransactionDeleted,
    /// A sales order was deleted.
    SalesOrderDeleted,
    /// An address was added.
    AddressAdded,
    /// An address that counterparties use was changed.
    AddressChanged,
    /// A counterparty was added.
    CounterpartyAdded,
    /// A counterparty took another legal address.
    CounterpartyMoved,
    /// A department was renamed.
    DepartmentRenamed,
    /// A department got, changed or lost its location.
    DepartmentMoved,
    /// A member of staff joined.
    StaffJoined,
    /// A member of staff went to another department.
    StaffMoved,
    /// A currency was added.
    CurrencyAdded,
    /// A design was added.
    DesignAdded,
    /// A design was renamed.
    DesignRenamed,
    /// A design without orders was deleted.
    DesignDeleted,
}

/// What a change does to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The row is new.
    Insert,
    /// The row has other values.
    Update,
    /// The row is gone.
    Delete,
}

impl Change {
    /// What the change does to a row.
    pub const fn effect(self) -> Effect {
        use Change::*;
        match self {
            SalesOrderPlaced | PurchaseOrderPlaced | TransactionRecorded | PaymentRecorded | PaymentRestored
            | AddressAdded | CounterpartyAdded | StaffJoined | CurrencyAdded | DesignAdded => Effect::Insert,
            PriceCorrected | DateMoved | PaymentSettled | FixedSilently | Backdated | AddressChanged
            | CounterpartyMoved | DepartmentRenamed | DepartmentMoved | StaffMoved | DesignRenamed => Effect::Update,
            PaymentDeleted | TransactionDeleted | SalesOrderDeleted | DesignDeleted => Effect::Delete,
        }
    }

    /// The change in a few words, for a line that people read.
    pub const fn label(self) -> &'static str {
        use Change::*;
        match self {
            SalesOrderPlaced => "sales order placed",
            PurchaseOrderPlaced => "purchase order placed",
            TransactionRecorded => "transaction recorded",
            PaymentRecorded => "payment recorded",
            PriceCorrected => "price corrected",
            DateMoved => "date moved",
            PaymentSettled => "payment settled",
            FixedSilently => "silent fix",
            Backdated => "backdated update",
            PaymentDeleted => "payment deleted",
            PaymentRestored => "payment restored",
            TransactionDeleted => "transaction deleted",
            SalesOrderDeleted => "sales order deleted",
            AddressAdded => "address added",
            AddressChanged => "address changed",
            CounterpartyAdded => "counterparty added",
            CounterpartyMoved => "counterparty moved",
            DepartmentRenamed => "department renamed",
            DepartmentMoved => "department moved",
            StaffJoined => "member of staff joined",
            StaffMoved => "member of staff moved",
            CurrencyAdded => "currency added",
            DesignAdded => "design added",
            DesignRenamed => "design renamed",
            DesignDeleted => "design deleted",
        }
    }
}
