//! The declaration of a table, and rows whose type is not known at compile time.
//!
//! # Invariants
//! - A `ColumnId` is the column's place in its declaration; names, not ids, go on the wire and to disk.
//! - Declarations never change while a program runs.

use std::{any::Any, fmt};

use ovsdb::{
    schema::ColumnType,
    value::{Atom, Datum},
};
use uuid::Uuid;

/// Which of the store's databases a table belongs to.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Database {
    /// Intent: projects, networks, ports.
    QuantumNet,
    /// The northbound database as OVN's clients know it.
    Northbound,
    /// Chassis, bindings and what was learned, with OVN_Southbound's names.
    Southbound,
    /// Facts about one hypervisor. Lives in its agent only and is never replicated.
    Host,
    /// What an OVSDB server says of itself. Lives in each member and is never replicated.
    Server,
}

impl Database {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::QuantumNet => "QuantumNet",
            Self::Northbound => "OVN_Northbound",
            Self::Southbound => "OVN_Southbound",
            Self::Host => "Host",
            Self::Server => "_Server",
        }
    }

    /// Whether its rows are in the store of the cluster.
    pub const fn is_replicated(self) -> bool {
        !matches!(self, Self::Host | Self::Server)
    }
}

/// A table, by its place in `tables::all()`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TableId(pub u16);

/// A column, by its place in its table's declaration.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ColumnId(pub u16);

/// Which agents a row is sent to. An agent holds a set of scopes, named by uuids; it gets every row
/// that is in one of them. A row may be in several scopes, by several rules.
///
/// Rules form no cycle: `Of` and `Referrers` point from what is carried to what carries it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// Sent to every agent.
    Global,
    /// The row names a scope of its own: its uuid.
    Own,
    /// In every scope of the rows that this column refers to.
    Of(&'static str),
    /// In every scope of the rows of `table` that refer to it through `column`.
    Referrers {
        /// Table name, of the same database.
        table: &'static str,
        /// The referring column.
        column: &'static str,
    },
    /// In every scope of the rows of `table` whose indexed `key` column equals this row's `column`.
    Key {
        /// Column of this row.
        column: &'static str,
        /// Table looked up, of the same database.
        table: &'static str,
        /// Its column, which must be an index of its own.
        key: &'static str,
    },
    /// In every scope of the rows of `table` whose text in `by`, or in the values of a map there, names this row: its
    /// `column`.
    Named {
        /// Column of this row: its name.
        column: &'static str,
        /// Database of the table looked at.
        database: Database,
        /// Table whose rows name this one.
        table: &'static str,
        /// Their column.
        by: &'static str,
        /// The character before a name within the text (`$` of `$set`); without one the text is the name.
        sigil: Option<char>,
    },
}

/// One column as declared.
#[derive(Clone, Debug)]
pub struct ColumnDecl {
    /// OVSDB name.
    pub name: &'static str,
    /// Type with its constraints.
    pub ty: ColumnType,
    /// Of the moment: clients do not expect it to outlive a restart. Replicated like any other, so that members agree.
    pub ephemeral: bool,
    /// Cannot change after the insert.
    pub immutable: bool,
    /// Never sent to agents: large or of no use to them.
    pub central: bool,
}

impl ColumnDecl {
    /// A plain column.
    pub const fn new(name: &'static str, ty: ColumnType) -> Self {
        Self { name, ty, ephemeral: false, immutable: false, central: false }
    }

    /// Adds constraints to the type.
    #[must_use]
    pub fn with(mut self, constrain: impl FnOnce(ColumnType) -> ColumnType) -> Self {
        self.ty = constrain(self.ty);
        self
    }

    /// See the field.
    #[must_use]
    pub const fn ephemeral(mut self) -> Self {
        self.ephemeral = true;
        self
    }

    /// See the field.
    #[must_use]
    pub const fn immutable(mut self) -> Self {
        self.immutable = true;
        self
    }

    /// See the field.
    #[must_use]
    pub const fn central(mut self) -> Self {
        self.central = true;
        self
    }
}

/// One table as declared.
#[derive(Debug)]
pub struct TableDecl {
    /// The database it is in.
    pub database: Database,
    /// OVSDB name.
    pub name: &'static str,
    /// Rows live without being referred to.
    pub root: bool,
    /// OVSDB's maxRows.
    pub max_rows: Option<usize>,
    /// Column sets that are unique in the table.
    pub indexes: Vec<Vec<ColumnId>>,
    /// In the order of declaration.
    pub columns: Vec<ColumnDecl>,
    /// Which agents see the rows; none of them when empty.
    pub scopes: Vec<Scope>,
    /// A row of defaults.
    pub new_row: fn() -> Box<dyn DynRow>,
}

impl TableDecl {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<ColumnId> {
        self.columns.iter().position(|column| column.name == name).map(column_id)
    }

    /// Its declaration. Panics on an id of another table.
    pub fn column_decl(&self, column: ColumnId) -> &ColumnDecl {
        &self.columns[usize::from(column.0)]
    }

    /// Ids of all columns.
    pub fn column_ids(&self) -> impl Iterator<Item = ColumnId> + use<> {
        (0..self.columns.len()).map(column_id)
    }
}

/// The id of the column at `position`.
pub(crate) fn column_id(position: usize) -> ColumnId {
    ColumnId(u16::try_from(position).expect("no table declares 65,536 columns"))
}

/// A row type made by `table!`.
pub trait Row: Clone + Default + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// OVSDB name of the table.
    const NAME: &'static str;
    /// The database the table is in.
    const DATABASE: Database;
    /// Its place among all tables, given by `tables.rs`.
    const TABLE: TableId;
    /// The declaration; call `TABLE`'s entry of `tables::all()` instead, which is made only once.
    fn declare() -> TableDecl;
    /// The column's value.
    fn datum(&self, column: ColumnId) -> Datum;
    /// Sets the column; false when the datum is not of its type. Constraints are checked elsewhere.
    fn set_datum(&mut self, column: ColumnId, datum: &Datum) -> bool;
    /// See [`Column::count`](crate::column::Column::count).
    fn count(&self, column: ColumnId) -> usize;
    /// See [`Column::element`](crate::column::Column::element).
    fn element(&self, column: ColumnId, key: &Atom) -> Option<Atom>;
    /// What turns the column into that of `new`.
    fn diff(&self, new: &Self, column: ColumnId) -> Option<Datum>;
    /// Applies what `diff` gave; false when it is not of the column's type.
    fn apply_diff(&mut self, column: ColumnId, diff: &Datum) -> bool;
    /// Every row that the column refers to.
    fn each_reference(&self, column: ColumnId, visit: &mut dyn FnMut(Uuid));
    /// References lost (`false`) and gained (`true`) on the way to `new`.
    fn reference_changes(&self, new: &Self, column: ColumnId, visit: &mut dyn FnMut(Uuid, bool));
}

/// A row of any table. Methods that take another row panic when it is of another table: rows are kept
/// by table, so that would be a programmer's error.
pub trait DynRow: Any + fmt::Debug + Send + Sync {
    /// The table.
    fn table(&self) -> TableId;
    /// For downcasts.
    fn as_any(&self) -> &dyn Any;
    /// A copy.
    fn clone_row(&self) -> Box<dyn DynRow>;
    /// Equal in every column.
    fn same(&self, other: &dyn DynRow) -> bool;
    /// See [`Row::datum`].
    fn datum(&self, column: ColumnId) -> Datum;
    /// See [`Row::set_datum`].
    fn set_datum(&mut self, column: ColumnId, datum: &Datum) -> bool;
    /// See [`Row::count`].
    fn count(&self, column: ColumnId) -> usize;
    /// See [`Row::element`].
    fn element(&self, column: ColumnId, key: &Atom) -> Option<Atom>;
    /// See [`Row::diff`].
    fn diff(&self, new: &dyn DynRow, column: ColumnId) -> Option<Datum>;
    /// See [`Row::apply_diff`].
    fn apply_diff(&mut self, column: ColumnId, diff: &Datum) -> bool;
    /// See [`Row::each_reference`].
    fn each_reference(&self, column: ColumnId, visit: &mut dyn FnMut(Uuid));
    /// See [`Row::reference_changes`].
    fn reference_changes(&self, new: &dyn DynRow, column: ColumnId, visit: &mut dyn FnMut(Uuid, bool));
}

impl<T: Row> DynRow for T {
    fn table(&self) -> TableId {
        T::TABLE
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn clone_row(&self) -> Box<dyn DynRow> {
        Box::new(self.clone())
    }

    fn same(&self, other: &dyn DynRow) -> bool {
        other.as_any().downcast_ref::<T>() == Some(self)
    }

    fn datum(&self, column: ColumnId) -> Datum {
        Row::datum(self, column)
    }

    fn set_datum(&mut self, column: ColumnId, datum: &Datum) -> bool {
        Row::set_datum(self, column, datum)
    }

    fn count(&self, column: ColumnId) -> usize {
        Row::count(self, column)
    }

    fn element(&self, column: ColumnId, key: &Atom) -> Option<Atom> {
        Row::element(self, column, key)
    }

    fn diff(&self, new: &dyn DynRow, column: ColumnId) -> Option<Datum> {
        Row::diff(self, same_table(new), column)
    }

    fn apply_diff(&mut self, column: ColumnId, diff: &Datum) -> bool {
        Row::apply_diff(self, column, diff)
    }

    fn each_reference(&self, column: ColumnId, visit: &mut dyn FnMut(Uuid)) {
        Row::each_reference(self, column, visit);
    }

    fn reference_changes(&self, new: &dyn DynRow, column: ColumnId, visit: &mut dyn FnMut(Uuid, bool)) {
        Row::reference_changes(self, same_table(new), column, visit);
    }
}

fn same_table<T: Row>(row: &dyn DynRow) -> &T {
    row.as_any().downcast_ref().expect("rows are compared within one table")
}

/// Declares a table as a typed struct.
///
/// ```text
/// table! {
///     /// A layer-2 broadcast domain.
///     pub struct LogicalSwitch = Northbound "Logical_Switch" [root] {
///         /// Name; not unique.
///         name: String,
///         /// Ports.
///         ports: OrdSet<Strong<LogicalSwitchPort>> => |c| c.central(),
///         /// Ranges add to the type.
///         tier: i64 => |c| c.with(|t| t.range(0, 3)),
///     }
///     indexes [["name"]]
///     scopes [Scope::Own]
/// }
/// ```
/// Without `[root]` a row lives only while it is referred to; `[root max 1]` and `[leaf max 1]` bound the table. A column's OVSDB name is the field's, without `r#`.
#[macro_export]
macro_rules! table {
    (
        $(#[$meta:meta])*
        pub struct $name:ident = $database:ident $table:literal $([$root:ident $(max $max_rows:literal)?])? {
            $( $(#[$field_meta:meta])* $field:ident : $ty:ty $(=> $build:expr)? ),* $(,)?
        }
        $(indexes [ $( [ $($index:literal),+ ] ),* $(,)? ])?
        $(scopes [ $($scope:expr),* $(,)? ])?
    ) => { $crate::table_impl! {
        [$(#[$meta])*] $name $database $table [$($root)?] [$($($max_rows)?)?]
        { $( [$(#[$field_meta])*] $field : $ty [$($build)?] )* }
        [$( $( [ $($index),+ ] )* )?] [$($($scope),*)?]
    } };
}

/// The second half of [`table!`].
#[doc(hidden)]
#[macro_export]
macro_rules! table_impl {
    (
        [$($meta:tt)*] $name:ident $database:ident $table:literal [$($root:ident)?] [$($max_rows:literal)?]
        { $( [$($field_meta:tt)*] $field:ident : $ty:ty [$($build:expr)?] )* }
        [$( [ $($index:literal),+ ] )*] [$($scope:expr),*]
    ) => {
        $($meta)*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $( $($field_meta)* pub $field: $ty, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: <$ty as $crate::column::Column>::zero(), )* }
            }
        }

        impl $crate::row::Row for $name {
            const NAME: &'static str = $table;
            const DATABASE: $crate::row::Database = $crate::row::Database::$database;
            const TABLE: $crate::row::TableId = $crate::tables::id_of($crate::row::Database::$database, $table);

            fn declare() -> $crate::row::TableDecl {
                #[allow(unused_imports)]
                use $crate::column::{Column, Constrain};
                let columns: Vec<$crate::row::ColumnDecl> = vec![
                    $( $crate::table_impl!(@build
                        $crate::row::ColumnDecl::new(
                            $crate::row::column_name(stringify!($field)),
                            <$ty as Column>::column_type(),
                        ) $(, $build)?
                    ), )*
                ];
                let indexes: Vec<Vec<&'static str>> = vec![$( vec![$($index),+] ),*];
                $crate::row::TableDecl {
                    database: $crate::row::Database::$database,
                    name: $table,
                    root: $crate::table_impl!(@root $($root)?),
                    max_rows: $crate::table_impl!(@max_rows $($max_rows)?),
                    indexes: $crate::row::index_ids(&columns, &indexes),
                    columns,
                    scopes: vec![$($scope),*],
                    new_row: || Box::new($name::default()),
                }
            }

            fn datum(&self, column: $crate::row::ColumnId) -> ovsdb::value::Datum {
                let mut place = 0;
                $( if column.0 == place { return $crate::column::Column::to_datum(&self.$field); } place += 1; )*
                unreachable!("column {} of {} has no place {place}", column.0, $table)
            }

            fn set_datum(&mut self, column: $crate::row::ColumnId, datum: &ovsdb::value::Datum) -> bool {
                let mut place = 0;
                $( if column.0 == place {
                    let Some(value) = $crate::column::Column::from_datum(datum) else { return false };
                    self.$field = value;
                    return true;
                } place += 1; )*
                unreachable!("column {} of {} has no place {place}", column.0, $table)
            }

            fn count(&self, column: $crate::row::ColumnId) -> usize {
                let mut place = 0;
                $( if column.0 == place { return $crate::column::Column::count(&self.$field); } place += 1; )*
                unreachable!("column {} of {} has no place {place}", column.0, $table)
            }

            fn element(
                &self,
                column: $crate::row::ColumnId,
                key: &ovsdb::value::Atom,
            ) -> Option<ovsdb::value::Atom> {
                let mut place = 0;
                $( if column.0 == place { return $crate::column::Column::element(&self.$field, key); } place += 1; )*
                unreachable!("column {} of {} has no place {place}", column.0, $table)
            }

            fn diff(&self, new: &Self, column: $crate::row::ColumnId) -> Option<ovsdb::value::Datum> {
                let mut place = 0;
                $( if column.0 == place { return $crate::column::Column::diff(&self.$field, &new.$field); } place += 1; )*
                unreachable!("column {} of {} has no place {place}", column.0, $table)
            }

            fn apply_diff(&mut self, column: $crate::row::ColumnId, diff: &ovsdb::value::Datum) -> bool {
                let mut place = 0;
                $( if column.0 == place {
                    let Some(value) = $crate::column::Column::apply(&self.$field, diff) else { return false };
                    self.$field = value;
                    return true;
                } place += 1; )*
                unreachable!("column {} of {} has no place {place}", column.0, $table)
            }

            fn each_reference(&self, column: $crate::row::ColumnId, visit: &mut dyn FnMut(uuid::Uuid)) {
                let mut place = 0;
                $( if column.0 == place { return $crate::column::Column::each_reference(&self.$field, visit); } place += 1; )*
                unreachable!("column {} of {} has no place {place}", column.0, $table)
            }

            fn reference_changes(
                &self,
                new: &Self,
                column: $crate::row::ColumnId,
                visit: &mut dyn FnMut(uuid::Uuid, bool),
            ) {
                let mut place = 0;
                $( if column.0 == place {
                    return $crate::column::Column::reference_changes(&self.$field, &new.$field, visit);
                } place += 1; )*
                unreachable!("column {} of {} has no place {place}", column.0, $table)
            }
        }
    };
    (@build $decl:expr) => { $decl };
    (@build $decl:expr, $build:expr) => { $crate::row::built($decl, $build) };
    (@root) => { false };
    (@root root) => { true };
    (@root leaf) => { false };
    (@max_rows) => { None };
    (@max_rows $max_rows:literal) => { Some($max_rows) };
}

/// Applies a column's `=> |c| …` clause.
#[doc(hidden)]
pub fn built(decl: ColumnDecl, build: impl FnOnce(ColumnDecl) -> ColumnDecl) -> ColumnDecl {
    build(decl)
}

/// A field's name without `r#`.
#[doc(hidden)]
pub fn column_name(field: &'static str) -> &'static str {
    field.strip_prefix("r#").unwrap_or(field)
}

/// Index columns by name.
#[doc(hidden)]
pub fn index_ids(columns: &[ColumnDecl], indexes: &[Vec<&'static str>]) -> Vec<Vec<ColumnId>> {
    let find = |name: &&str| {
        let position = columns.iter().position(|column| column.name == *name);
        column_id(position.unwrap_or_else(|| panic!("index names the undeclared column {name}")))
    };
    indexes.iter().map(|index| index.iter().map(find).collect()).collect()
}
